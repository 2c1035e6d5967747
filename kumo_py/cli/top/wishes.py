"""What the person at the terminal has chosen, and the keys by which that is done."""

from __future__ import annotations

from dataclasses import dataclass

VIEWS = ("queues", "sites", "errors", "tenants")
ORDERS = ("size", "age", "errors")
HELP = (
    ("q", "quit"),
    ("tab  ← →", "the next view, or the one before"),
    ("1 2 3 4", "queues, sites, errors by site, tenants"),
    ("o  ↑ ↓", "the order: largest, oldest or latest errors first"),
    ("/", "only queues with this in their names; enter ends it, escape takes it away"),
    ("p  space", "pause: nothing is asked, so that you can read"),
    ("? h", "this help"),
)


@dataclass(slots=True)
class Wishes:
    """What is drawn."""

    view: str = VIEWS[0]
    order: str = ORDERS[0]
    paused: bool = False
    help: bool = False
    match: str = ""
    """Part of the names of the queues that are shown."""
    typing: bool = False
    """Whether keys go into `match`."""

    def query(self, limit: int) -> dict[str, str]:
        """What the node is asked for."""
        order = "errors" if self.view == "errors" else self.order
        return {"limit": str(limit), "order": order} | ({"match": self.match} if self.match else {})

    def press(self, key: str) -> bool:
        """Whether to go on."""
        if self.typing:
            self._type(key)
            return True
        match key:
            case "q":
                return False
            case "tab" | "right" | "shift-tab" | "left":
                self.view = _next(VIEWS, self.view, -1 if key in ("shift-tab", "left") else 1)
            case "o" | "down" | "up":
                self.order = _next(ORDERS, self.order, -1 if key == "up" else 1)
            case "p" | " ":
                self.paused = not self.paused
            case "?" | "h":
                self.help = not self.help
            case "/":
                self.typing = True
            case "escape":
                self.help = False
                self.match = ""
            case "1" | "2" | "3" | "4":
                self.view = VIEWS[int(key) - 1]
        return True

    def _type(self, key: str) -> None:
        match key:
            case "enter":
                self.typing = False
            case "escape":
                self.typing = False
                self.match = ""
            case "backspace":
                self.match = self.match[:-1]
            case _ if len(key) == 1 and key.isprintable() and len(self.match) < 200:
                self.match += key


def _next(all_: tuple[str, ...], now: str, step: int) -> str:
    return all_[(all_.index(now) + step) % len(all_)]
