"""aiosmtpd that accepts and discards: aiosmtpd_sink.py PORT. It runs in a virtual environment of its own."""

from __future__ import annotations

import asyncio
import sys

from aiosmtpd.smtp import SMTP, Envelope, Session


class Discard:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 OK"


async def main() -> None:
    handler = Discard()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="bench", enable_SMTPUTF8=True),
        "127.0.0.1",
        int(sys.argv[1]),
        backlog=1024,
    )
    await server.serve_forever()


asyncio.run(main())
