"""A DNS in memory for the auth room: lines of `name TYPE value`, or `name FAIL` for what cannot be asked."""

from __future__ import annotations

from ipaddress import ip_address

from kumo_py.auth.lookups import TemporaryFailure


class AuthZone:
    """`kumo_py.auth.lookups.Lookups`; `asked` has the questions, as `TYPE name`."""

    def __init__(self, text: str = "") -> None:
        self.asked: list[str] = []
        self._records: dict[tuple[str, str], list[str]] = {}
        self._failing: set[str] = set()
        for line in text.splitlines():
            if line.strip():
                name, rdtype, *value = line.strip().split(" ", 2)
                self.add(name, rdtype, *value)

    def add(self, name: str, rdtype: str, value: str = "") -> None:
        if rdtype == "FAIL":
            self._failing.add(name.lower())
        else:
            self._records.setdefault((name.lower(), rdtype), []).append(value)

    def _ask(self, name: str, rdtype: str) -> list[str]:
        self.asked.append(f"{rdtype} {name}")
        if name.lower() in self._failing:
            raise TemporaryFailure(f"{rdtype} lookup for {name} failed: SERVFAIL")
        return self._records.get((name.lower(), rdtype), [])

    async def txt(self, name: str) -> list[str]:
        return self._ask(name, "TXT")

    async def a(self, name: str) -> list[str]:
        return self._ask(name, "A")

    async def aaaa(self, name: str) -> list[str]:
        return self._ask(name, "AAAA")

    async def mx(self, name: str) -> list[str]:
        return self._ask(name, "MX")

    async def ptr(self, address: str) -> list[str]:
        return self._ask(ip_address(address).reverse_pointer, "PTR")
