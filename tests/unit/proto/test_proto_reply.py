import pytest

from kumo_py.proto.reply import EnhancedCode, ReplyError, ReplyReader, Response, format_reply


def read(*pieces: bytes) -> list[Response]:
    reader = ReplyReader()
    replies = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next()) is not None:
            replies.append(reply)
    assert not reader.pending
    return replies


class TestReading:
    @pytest.mark.parametrize(
        ("wire", "response"),
        [
            (b"250 OK\r\n", Response(250, None, "OK")),
            (b"250\r\n", Response(250)),
            (b"250 \r\n", Response(250)),
            (b"250 2.1.0 Sender ok\r\n", Response(250, EnhancedCode(2, 1, 0), "Sender ok")),
            (b"550 5.7.511 no\r\n", Response(550, EnhancedCode(5, 7, 511), "no")),
            # no enhanced code without a text after it, of another class, or with other digits
            (b"250 2.0.0\r\n", Response(250, None, "2.0.0")),
            (b"354 3.0.0 go\r\n", Response(354, None, "3.0.0 go")),
            (b"250 2.0.0.1 x\r\n", Response(250, None, "2.0.0.1 x")),
            (b"250 2.0.1000 x\r\n", Response(250, None, "2.0.1000 x")),
            (b"250-a\r\n250-\r\n250 c\r\n", Response(250, None, "a\n\nc")),
            (b"250-a\r\n250\r\n", Response(250, None, "a\n")),
            (
                b"550-5.7.1 first\r\n550-5.7.1 second\r\n550-third\r\n550 5.7.2 last\r\n",
                Response(550, EnhancedCode(5, 7, 1), "first\nsecond\nthird\n5.7.2 last"),
            ),
            (b"250 a\rb\nc\r\n", Response(250, None, "a\rb\nc")),
            (b"250 \xff\xc3\xbc\r\n", Response(250, None, "\ufffd\u00fc")),
        ],
    )
    def test_a_reply_is_read_whole_and_byte_by_byte(self, wire: bytes, response: Response) -> None:
        assert read(wire) == [response]
        assert read(*(wire[i : i + 1] for i in range(len(wire)))) == [response]

    def test_pipelined_replies_know_their_commands(self) -> None:
        reader = ReplyReader()
        reader.feed(b"250 a\r\n250-b\r\n250 c\r\n354 d\r\n")
        commands = ["MAIL FROM:<>", "RCPT TO:<a@b>", "DATA"]
        assert [reader.next(command) for command in commands] == [
            Response(250, None, "a", "MAIL FROM:<>"),
            Response(250, None, "b\nc", "RCPT TO:<a@b>"),
            Response(354, None, "d", "DATA"),
        ]
        assert reader.next("QUIT") is None

    @pytest.mark.parametrize(
        ("wire", "message"),
        [
            (b"\r\n", "expected a reply such as '250 OK', got ''"),
            (b"25 OK\r\n", "got '25 OK'"),
            (b"250OK\r\n", "got '250OK'"),
            (b"150 x\r\n", "got '150 x'"),
            (b"650 x\r\n", "got '650 x'"),
            ("25\u0663 x\r\n".encode(), "expected a reply"),
            (b"250-a\r\n251 b\r\n", "began with '250' and went on with '251 b'"),
            (b"250 " + b"x" * 4093 + b"\r\n", "longer than 4096 octets"),
            (b"250 " + b"x" * 4094, "longer than 4096 octets"),
            (b"250-x\r\n" * 128, "more than 128 lines"),
        ],
    )
    def test_what_is_no_reply_is_an_error(self, wire: bytes, message: str) -> None:
        with pytest.raises(ReplyError, match=message):
            read(wire)
        with pytest.raises(ReplyError, match=message):
            read(*(wire[i : i + 1] for i in range(len(wire))))

    def test_the_longest_line_and_the_longest_reply_are_fine(self) -> None:
        assert read(b"250 " + b"x" * 4092 + b"\r\n")[0].content == "x" * 4092
        assert read(b"250-x\r\n" * 127 + b"250 x\r\n")[0].content == "\n".join("x" * 128)

    def test_what_came_before_tls_is_forgotten(self) -> None:
        reader = ReplyReader()
        reader.feed(b"220 go\r\n250-injected\r\n")
        assert reader.next() == Response(220, None, "go")
        assert reader.pending
        assert reader.next() is None
        assert reader.pending
        reader.discard()
        assert reader.next() is None
        reader.feed(b"250 real\r\n")
        assert reader.next() == Response(250, None, "real")


class TestResponse:
    def test_record(self) -> None:
        assert Response(250, EnhancedCode(2, 0, 0), "a\r\nb\rc\nd", ".").to_record() == {
            "code": 250,
            "enhanced_code": {"class": 2, "subject": 0, "detail": 0},
            "content": "a b c d",
            "command": ".",
        }
        assert Response(400).to_record() == {
            "code": 400,
            "enhanced_code": None,
            "content": "",
            "command": None,
        }

    def test_single_line(self) -> None:
        assert Response(550, EnhancedCode(5, 7, 1), "no\nway").to_single_line() == "550 5.7.1 no way"
        assert Response(550, None, "no").to_single_line() == "550 no"

    @pytest.mark.parametrize(
        ("code", "verdict"),
        [
            (200, "success"),
            (250, "success"),
            (299, "success"),
            (354, "transient"),
            (421, "transient"),
            (499, "transient"),
            (503, "transient"),
            (500, "permanent"),
            (552, "permanent"),
            (599, "permanent"),
        ],
    )
    def test_classification(self, code: int, verdict: str) -> None:
        response = Response(code)
        assert [response.is_success, response.is_transient, response.is_permanent] == [
            verdict == "success",
            verdict == "transient",
            verdict == "permanent",
        ]

    def test_from_text(self) -> None:
        assert Response.from_text(550, "5.7.1 no\r\n5.7.1 way\n", "DATA") == Response(
            550, EnhancedCode(5, 7, 1), "no\nway", "DATA"
        )
        assert Response.from_text(421, "later") == Response(421, None, "later")


class TestFormat:
    @pytest.mark.parametrize(
        ("text", "wire"),
        [
            ("OK", b"250 OK\r\n"),
            ("", b"250 \r\n"),
            (" ", b"250  \r\n"),
            ("a\nb", b"250-a\r\n250 b\r\n"),
            ("a\r\nb\r\n", b"250-a\r\n250 b\r\n"),
            ("a\n\nb", b"250-a\r\n250-\r\n250 b\r\n"),
            ("a\rb\x00c\x1b\x7f\x85", b"250 a b c   \r\n"),
            ("ü\u2028\ud800", "250 ü\u2028 \r\n".encode()),
        ],
    )
    def test_one_reply_comes_out_whatever_goes_in(self, text: str, wire: bytes) -> None:
        assert format_reply(250, text) == wire

    def test_long_lines_are_wrapped_at_a_space(self) -> None:
        text = "OK ids=" + " ".join(["0123456789abcdef" * 2] * 100)
        wire = format_reply(250, text)
        lines = wire.split(b"\r\n")
        assert max(map(len, lines)) <= 510
        assert len(lines) == 8
        assert [reply.content.replace("\n", " ") for reply in read(wire)] == [text]

    def test_long_words_are_cut_between_characters(self) -> None:
        text = "a" + "ü" * 600
        wire = format_reply(250, text)
        assert all(len(line) <= 510 and line.decode() for line in wire.splitlines())
        assert read(wire)[0].content.replace("\n", "") == text
