"""A subclass that says how it is pickled and copied, in a module of its own, which is how a pickle finds it."""

from fastevent import Event


class Named(Event):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def __getstate__(self):
        return {"label": self.label, "set": self.is_set()}

    def __setstate__(self, state):
        self.__init__(state["label"])
        if state["set"]:
            self.set()
