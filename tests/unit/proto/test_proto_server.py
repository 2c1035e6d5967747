import pytest

from kumo_py.proto.content import DataResult, Fault, LineEndings
from kumo_py.proto.server import Receiver


def receive(
    *pieces: bytes, max_size: int = 1000, limit: int = 998, policy: LineEndings = "Deny"
) -> DataResult | None:
    receiver = Receiver()
    receiver.begin_data(max_size, limit, policy)
    result = None
    for piece in pieces:
        assert result is None, "the content ended before the last piece"
        receiver.feed(piece)
        result = receiver.next_data()
    return result


class TestLines:
    def test_lines_come_out_one_by_one(self) -> None:
        receiver = Receiver()
        receiver.feed(b"NOOP\r\nQUIT\r\nRS")
        assert receiver.next_line() == b"NOOP"
        assert receiver.next_line() == b"QUIT"
        assert receiver.next_line() is None
        receiver.feed(b"ET\r\n")
        assert receiver.next_line() == b"RSET"
        assert receiver.next_line() is None
        assert not receiver.pending

    def test_a_bare_lf_or_cr_is_part_of_the_line(self) -> None:
        receiver = Receiver()
        receiver.feed(b"a\nb\rc\r\r\n\r\n")
        assert receiver.next_line() == b"a\nb\rc\r"
        assert receiver.next_line() == b""

    def test_crlf_may_be_cut_in_two(self) -> None:
        receiver = Receiver()
        receiver.feed(b"NOOP\r")
        assert receiver.next_line() is None
        receiver.feed(b"\nX")
        assert receiver.next_line() == b"NOOP"

    def test_the_limit_counts_no_crlf(self) -> None:
        receiver = Receiver(line_limit=4)
        receiver.feed(b"1234\r\n12345\r\n1234\r\n")
        assert [receiver.next_line() for _ in range(4)] == [b"1234", Fault.LINE_TOO_LONG, b"1234", None]

    def test_an_over_long_line_is_reported_once_and_forgotten(self) -> None:
        receiver = Receiver(line_limit=4)
        for _ in range(100):
            receiver.feed(b"x" * 10)
            assert receiver.next_line() is None
            assert not receiver.pending
        receiver.feed(b"\r")
        assert receiver.next_line() is None
        receiver.feed(b"\nOK\r\n")
        assert receiver.next_line() == Fault.LINE_TOO_LONG
        assert receiver.next_line() == b"OK"

    def test_one_line_may_have_its_own_limit(self) -> None:
        receiver = Receiver(line_limit=4)
        receiver.feed(b"x" * 16 + b"\r\n")
        assert receiver.next_line(limit=16) == b"x" * 16

    def test_discard_forgets_what_came_before_tls(self) -> None:
        receiver = Receiver(line_limit=4)
        receiver.feed(b"TLS\r\nRSET\r\nxxxxxxxxxx")
        assert receiver.next_line() == b"TLS"
        assert receiver.pending
        receiver.discard()
        assert receiver.take_rest() == b""
        receiver.feed(b"NOOP\r\n")
        assert receiver.next_line() == b"NOOP"

    def test_discard_forgets_an_over_long_line(self) -> None:
        receiver = Receiver(line_limit=4)
        receiver.feed(b"xxxxxxxxxx")
        assert receiver.next_line() is None
        receiver.discard()
        receiver.feed(b"NOOP\r\n")
        assert receiver.next_line() == b"NOOP"

    def test_take_rest(self) -> None:
        receiver = Receiver()
        receiver.feed(b"a\r\nrest")
        assert receiver.next_line() == b"a"
        assert receiver.take_rest() == b"rest"
        assert receiver.take_rest() == b""


class TestData:
    def test_the_content_ends_with_its_last_crlf(self) -> None:
        assert receive(b"Subject: x\r\n\r\nbody\r\n.\r\n") == DataResult(b"Subject: x\r\n\r\nbody\r\n")

    def test_what_follows_the_terminator_stays(self) -> None:
        receiver = Receiver()
        receiver.begin_data(1000, 998, "Deny")
        receiver.feed(b"a\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\n")
        assert receiver.next_data() == DataResult(b"a\r\n")
        assert receiver.next_line() == b"MAIL FROM:<x@y>"
        assert receiver.next_line() == b"."

    def test_the_first_terminator_counts(self) -> None:
        receiver = Receiver()
        receiver.begin_data(1000, 998, "Deny")
        receiver.feed(b"a\r\n.\r\n.\r\nb\r\n.\r\n")
        assert receiver.next_data() == DataResult(b"a\r\n")
        assert receiver.take_rest() == b".\r\nb\r\n.\r\n"

    def test_a_lone_dot_is_an_empty_message(self) -> None:  # RFC 5321 §4.1.1.4
        assert receive(b".\r\n") == DataResult(b"")
        assert receive(b".", b"\r", b"\n") == DataResult(b"")
        assert receive(b"\r\n.\r\n") == DataResult(b"\r\n")

    def test_the_line_before_is_not_part_of_the_content(self) -> None:
        receiver = Receiver()
        for _ in range(2):
            receiver.feed(b"DATA\r\n.\r\n")
            assert receiver.next_line() == b"DATA"
            receiver.begin_data(1000, 998, "Deny")
            assert receiver.next_data() == DataResult(b"")

    @pytest.mark.parametrize("cut", range(1, 11))
    def test_the_terminator_may_be_cut_anywhere(self, cut: int) -> None:
        wire = b"abc\r\nd\r\n.\r\n"
        assert receive(wire[:cut], wire[cut:]) == DataResult(b"abc\r\nd\r\n")

    def test_byte_by_byte(self) -> None:
        wire = b"..a\r\n..\r\nb\r\n.\r\n"
        assert receive(*(wire[i : i + 1] for i in range(len(wire)))) == DataResult(
            b".a\r\n.\r\nb\r\n", has_leading_dots=True
        )

    def test_transparency(self) -> None:  # RFC 5321 §4.5.2
        assert receive(b"..\r\na\r\n..b\r\n.c\r\n.\r\n") == DataResult(
            b".\r\na\r\n.b\r\nc\r\n", has_leading_dots=True
        )
        assert receive(b".c\r\n.\r\n") == DataResult(b"c\r\n")

    def test_eight_bit_and_nul_pass(self) -> None:
        assert receive(b"a\0\xe4\r\n.\r\n") == DataResult(b"a\0\xe4\r\n", is_8bit=True)

    def test_size_limit_is_exact_and_drains(self) -> None:
        for pieces in ([b"12345678\r\n.\r\n"], [b"1234", b"5678\r\n.", b"\r\n"]):
            assert receive(*pieces, max_size=10) == DataResult(b"12345678\r\n")
            assert receive(*pieces, max_size=9) == DataResult(fault=Fault.TOO_BIG)

    def test_after_a_fault_the_session_goes_on(self) -> None:
        receiver = Receiver()
        for fault, wire in ((Fault.TOO_BIG, b"12345678901\r\n"), (Fault.LINE_TOO_LONG, b"12345\r\n")):
            receiver.begin_data(10, 4, "Deny")
            receiver.feed(wire)
            assert receiver.next_data() is None
            receiver.feed(b".\r\nNOOP\r\n")
            assert receiver.next_data() == DataResult(fault=fault)
            assert receiver.next_line() == b"NOOP"

    def test_a_second_content_does_not_see_the_first(self) -> None:
        receiver = Receiver()
        receiver.begin_data(1000, 998, "Deny")
        receiver.feed(b"first")
        assert receiver.next_data() is None
        receiver.begin_data(1000, 998, "Deny")
        receiver.feed(b"second\r\n.\r\n")
        assert receiver.next_data() == DataResult(b"second\r\n")

    def test_many_chunks_are_joined_in_order(self) -> None:
        pieces = [bytes([65 + i % 26]) * (1 + i * 37 % 5000) + b"\r\n" for i in range(200)]
        result = receive(*pieces, b".\r\n", max_size=10_000_000, limit=10_000)
        assert result == DataResult(b"".join(pieces))


class TestBdat:
    def test_a_chunk_is_exactly_as_long_as_announced(self) -> None:  # RFC 3030 §2
        receiver = Receiver()
        receiver.feed(b"\r\n.\r\nxBDAT 0 LAST\r\n")
        receiver.begin_bdat(6, 100)
        assert receiver.next_bdat() == b"\r\n.\r\nx"
        assert receiver.next_line() == b"BDAT 0 LAST"
        receiver.begin_bdat(0, 100)
        assert receiver.next_bdat() == b""

    def test_a_chunk_may_come_in_pieces(self) -> None:
        receiver = Receiver()
        receiver.begin_bdat(5, 100)
        assert receiver.next_bdat() is None
        receiver.feed(b"ab")
        assert receiver.next_bdat() is None
        receiver.feed(b"cdeNOOP\r\n")
        assert receiver.next_bdat() == b"abcde"
        assert receiver.next_line() == b"NOOP"

    def test_a_chunk_beyond_the_limit_is_drained(self) -> None:
        receiver = Receiver()
        receiver.begin_bdat(10, 9)
        receiver.feed(b"12345")
        assert receiver.next_bdat() is None
        receiver.feed(b"67890NOOP\r\n")
        assert receiver.next_bdat() is Fault.TOO_BIG
        assert receiver.next_line() == b"NOOP"
