"""Character sets of mail: which names are known, and bytes to text (RFC 2045 §2.2, RFC 2978).

Names are looked up in a table of our own: Python's registry remembers every name that it is asked for, and has
codecs that are none of text. What mail calls by the name of a small set is decoded as the larger set that senders
mean by it (WHATWG Encoding): `iso-8859-1` is windows-1252, `gb2312` is GB 18030, `shift_jis` is windows-31j.
"""

from __future__ import annotations

import codecs

_CODECS: dict[str, tuple[str, ...]] = {
    "utf_8": ("utf8", "unicode11utf8", "csutf8"),
    "ascii": ("usascii", "ascii", "ansix341968", "iso646us", "us", "csascii", "646"),
    "utf_7": ("utf7", "unicode11utf7"),
    "utf_16": ("utf16",),
    "utf_16_le": ("utf16le",),
    "utf_16_be": ("utf16be",),
    "utf_32": ("utf32",),
    "utf_32_le": ("utf32le",),
    "utf_32_be": ("utf32be",),
    "cp1252": ("iso88591", "latin1", "l1", "cp819", "ibm819", "windows1252", "cp1252"),
    "cp1254": ("iso88599", "latin5", "l5", "windows1254", "cp1254"),
    "cp874": ("iso885911", "tis620", "windows874", "cp874"),
    "iso8859_8": ("iso88598", "iso88598i", "iso88598e", "hebrew"),
    "gb18030": ("gb2312", "gbk", "xgbk", "gb18030", "cp936", "ms936", "windows936", "euccn", "gb231280"),
    "hz": ("hzgb2312", "hz"),
    "big5hkscs": ("big5", "big5hkscs", "cnbig5", "xxbig5", "cp950"),
    "euc_jp": ("eucjp", "xeucjp"),
    "cp949": ("euckr", "ksc56011987", "ksc5601", "korean", "windows949", "cp949", "uhc"),
    "cp932": ("shiftjis", "sjis", "xsjis", "mskanji", "windows31j", "windows932", "cp932"),
    "iso2022_jp_2": ("iso2022jp", "iso2022jp2", "iso2022jp1"),
    "iso2022_jp_3": ("iso2022jp3",),
    "iso2022_jp_2004": ("iso2022jp2004",),
    "iso2022_kr": ("iso2022kr",),
    "koi8_r": ("koi8r", "koi8"),
    "koi8_u": ("koi8u", "koi8ru"),
    "koi8_t": ("koi8t",),
    "mac_roman": ("macintosh", "macroman", "xmacroman"),
    "mac_cyrillic": ("xmaccyrillic", "xmacukrainian", "maccyrillic"),
    "cp866": ("ibm866", "cp866", "866"),
}
_CODEC_OF = {
    **{f"iso8859{n}": f"iso8859_{n}" for n in (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)},
    **{f"latin{n}": f"iso8859_{part}" for n, part in ((2, 2), (3, 3), (4, 4), (6, 10), (9, 15), (10, 16))},
    **{
        f"{kind}{n}": f"cp{n}"
        for n in (1250, 1251, 1253, 1255, 1256, 1257, 1258)
        for kind in ("windows", "cp")
    },
    **{f"{kind}{n}": f"cp{n}" for n in (437, 850, 852, 855, 857, 858, 862, 864) for kind in ("ibm", "cp")},
    **{name: codec for codec, names in _CODECS.items() for name in names},
}
_drop_punctuation = str.maketrans("", "", "-_.: ")

# Bytes that windows code pages leave undefined are controls in the ISO set of the same letters.
_WIDER = {"cp1252": "latin_1", "cp1254": "iso8859_9", "cp874": "tis_620"}


def find_codec(charset: str) -> str | None:
    """Python's name of a charset, None for one that is not known. Case and punctuation do not count."""
    if len(charset) > 40:
        return None
    return _CODEC_OF.get(charset.lower().translate(_drop_punctuation))


def decode(data: bytes, charset: str) -> str:
    """The text of bytes in a charset. Raises ValueError if it is not known, or the bytes are not of it."""
    codec = find_codec(charset)
    if codec is None:
        raise ValueError(f"unsupported charset '{charset[:40]}'")
    return decode_as(data, codec)


def decode_as(data: bytes, codec: str, errors: str = "strict") -> str:
    """The text of bytes in a codec that find_codec named. Raises UnicodeError, which is a ValueError."""
    try:
        return codecs.decode(data, codec)
    except UnicodeError:
        wider = _WIDER.get(codec)
        if wider is None and errors == "strict":
            raise
    return codecs.decode(data, wider or codec, errors)


def encode_as(text: str, codec: str, errors: str = "strict") -> bytes:
    """The bytes of a text in a codec that find_codec named. Raises UnicodeError, which is a ValueError."""
    return codecs.encode(text, codec, errors)
