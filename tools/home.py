"""Where the project lives: its links in the metadata, in the README on an index, and on the site."""

import re
from pathlib import Path
from typing import Any

#: The address of the repository, such as `https://github.com/someone/fastevent`. Empty, there are no links to it.
REPOSITORY = ""


def site(repository: str = REPOSITORY) -> str:
    """Return the address of the pages that the workflow `pages.yml` publishes."""
    host, owner, name = repository.rstrip("/").rsplit("/", 2)
    return f"https://{owner.lower()}.{host.rpartition('/')[2].partition('.')[0]}.io/{name}/"


def urls(repository: str = REPOSITORY) -> dict[str, str]:
    """Return what the metadata calls `Project-URL`."""
    if not repository:
        return {}
    return {
        "Documentation": site(repository),
        "Source": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def for_an_index(readme: str, version: str, repository: str = REPOSITORY) -> str:
    """Return the README with links that lead somewhere from an index of packages: to the tag of this version.

    Without a repository, a link is its text, and there are no pictures.
    """

    def link(match: re.Match[str]) -> str:
        image, text, path = match.groups()
        if re.match(r"\w+:|#", path):
            return match[0]
        if not repository:
            return "" if image else text
        return f"{image}[{text}]({repository}/{'raw' if image else 'blob'}/v{version}/{path})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, readme)


def on_config(config: Any) -> None:
    """Give the site its address, and a link to the repository. A hook of mkdocs."""
    if REPOSITORY:
        config.site_url, config.repo_url = site(), REPOSITORY


def on_post_build(config: Any) -> None:
    """Write `llms.txt`: what the project is, and each page with its sections. A hook of mkdocs."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    pages = [path for group in config.nav for path in _paths(group)]
    for path in pages:
        text = Path(config.docs_dir, path).read_text(encoding="utf-8")
        without_code = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        title, *sections = re.findall(r"^#{1,2} (.+)$", without_code, re.M)
        address = (config.site_url or "") + path.replace(".md", ".html")
        lines.append(f"- [{title}]({address})" + (f": {'; '.join(sections)}" if sections else ""))
    Path(config.site_dir, "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def _paths(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [path for part in (entry.values() if isinstance(entry, dict) else entry) for path in _paths(part)]
