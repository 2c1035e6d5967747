"""The wire formats of mail transfer, without I/O and without a clock.

Bytes go in, commands, replies and message contents come out. Every parser here is bounded in memory,
linear in its input, and gives the same answers fed whole or byte by byte. The sessions in `smtp_in` and
`smtp_out` own the sockets, the deadlines and the decisions.
"""
