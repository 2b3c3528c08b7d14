"""A program that shows how it was started, for tests of `python -m fastevent run`."""

import json
import sys

main = sys.modules["__main__"]
shown = {
    "argv": sys.argv,
    "path": sys.path,
    "name": __name__,
    "file": globals().get("__file__"),
    "package": __package__,
    "spec": __spec__ and [__spec__.name, __spec__.origin],
    "loader": type(__loader__).__name__,
    "code": (lambda: 0).__code__.co_filename,
    "is_main": vars(main) is globals(),
    "leftovers": sorted(name for name in globals() if not name.startswith("__")),
}
print(json.dumps(shown))
sys.exit(int(sys.argv[1]))
