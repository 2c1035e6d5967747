"""Kinds of files: by their first octets, by extension, by media type.

A table of what mail carries, from public registries and the formats' own specifications. KumoMTA has a far larger one,
whose names for a kind may differ.
"""

from __future__ import annotations

from typing import NamedTuple


class FileType(NamedTuple):
    """A kind of file. The first extension and the first media type are the usual ones."""

    name: str
    extensions: tuple[str, ...]
    media_types: tuple[str, ...]
    magic: tuple[tuple[int, bytes], ...] = ()
    """Octets at offsets: all of them must be there."""


_HEAD = 65536
"""Octets that are looked at."""


def _type(
    name: str, extensions: str, media_types: str, *magics: bytes | tuple[tuple[int, bytes], ...]
) -> tuple[FileType, ...]:
    """One entry for each alternative of the magic, or one without any."""
    names, types = tuple(extensions.split()), tuple(media_types.split())
    alternatives = [((0, magic),) if isinstance(magic, bytes) else magic for magic in magics]
    return tuple(FileType(name, names, types, magic) for magic in alternatives or [()])


BINARY = FileType("Binary", ("bin",), ("application/octet-stream",))
TEXT = FileType("Plain text", ("txt", "text"), ("text/plain",))
ZIP = FileType(
    "ZIP archive", ("zip",), ("application/zip", "application/x-zip-compressed"), ((0, b"PK\3\4"),)
)

_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."

# What is told apart inside of a ZIP archive by a name or type that stands near its beginning.
_IN_ZIP: tuple[tuple[bytes, FileType], ...] = (
    (b"word/", FileType("Office Open XML Document", ("docx",), (f"{_OOXML}wordprocessingml.document",))),
    (b"xl/", FileType("Office Open XML Workbook", ("xlsx",), (f"{_OOXML}spreadsheetml.sheet",))),
    (b"ppt/", FileType("Office Open XML Presentation", ("pptx",), (f"{_OOXML}presentationml.presentation",))),
    (f"{_ODF}text".encode(), FileType("OpenDocument Text", ("odt",), (f"{_ODF}text",))),
    (f"{_ODF}spreadsheet".encode(), FileType("OpenDocument Spreadsheet", ("ods",), (f"{_ODF}spreadsheet",))),
    (
        f"{_ODF}presentation".encode(),
        FileType("OpenDocument Presentation", ("odp",), (f"{_ODF}presentation",)),
    ),
    (b"application/epub+zip", FileType("Electronic Publication", ("epub",), ("application/epub+zip",))),
    (
        b"AndroidManifest.xml",
        FileType("Android Package", ("apk",), ("application/vnd.android.package-archive",)),
    ),
    (
        b"META-INF/MANIFEST.MF",
        FileType("Java Archive", ("jar",), ("application/java-archive", "application/x-java-archive")),
    ),
)

# The longer magic of two that begin alike comes first.
_TYPES: tuple[FileType, ...] = (
    # pictures
    *_type("Portable Network Graphics", "png", "image/png", b"\x89PNG\r\n\x1a\n"),
    *_type("Graphics Interchange Format", "gif", "image/gif", b"GIF87a", b"GIF89a"),
    *_type("JPEG", "jpg jpeg jpe jfif", "image/jpeg", b"\xff\xd8\xff"),
    *_type("WebP", "webp", "image/webp", ((0, b"RIFF"), (8, b"WEBP"))),
    *_type("Tagged Image File Format", "tiff tif", "image/tiff", b"II*\0", b"MM\0*"),
    *_type("Windows Bitmap", "bmp dib", "image/bmp image/x-ms-bmp", ((0, b"BM"), (6, b"\0\0\0\0"))),
    *_type("Windows Icon", "ico", "image/vnd.microsoft.icon image/x-icon", b"\0\0\1\0"),
    *_type("AV1 Image File Format", "avif", "image/avif", ((4, b"ftypavif"),)),
    *_type(
        "High Efficiency Image", "heic heif", "image/heic image/heif", ((4, b"ftyphei"),), ((4, b"ftypmif1"),)
    ),
    *_type("Adobe Photoshop", "psd", "image/vnd.adobe.photoshop", b"8BPS"),
    *_type("Scalable Vector Graphics", "svg", "image/svg+xml", b"<svg"),
    # documents
    *_type("Portable Document Format", "pdf", "application/pdf application/x-pdf", b"%PDF-"),
    *_type("PostScript", "ps eps", "application/postscript", b"%!PS"),
    *_type("Rich Text Format", "rtf", "application/rtf text/rtf", b"{\\rtf"),
    *_type(
        "OLE2 Compound Document Format",
        "doc xls ppt msg msi",
        "application/x-ole-storage application/msword application/vnd.ms-excel application/vnd.ms-powerpoint",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ),
    *_type("Microsoft OneNote", "one", "application/onenote", b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d"),
    *_type("Transport Neutral Encapsulation Format", "dat tnef", "application/ms-tnef", b"\x78\x9f\x3e\x22"),
    # archives
    *_type("ZIP archive (empty)", "zip", "application/zip", b"PK\5\6"),
    *_type("gzip", "gz gzip tgz", "application/gzip application/x-gzip", b"\x1f\x8b"),
    *_type("bzip2", "bz2", "application/x-bzip2", b"BZh"),
    *_type("XZ", "xz", "application/x-xz", b"\xfd7zXZ\0"),
    *_type("Zstandard", "zst", "application/zstd", b"\x28\xb5\x2f\xfd"),
    *_type("7-Zip archive", "7z", "application/x-7z-compressed", b"7z\xbc\xaf\x27\x1c"),
    *_type("RAR archive", "rar", "application/vnd.rar application/x-rar-compressed", b"Rar!\x1a\7"),
    *_type("Tape Archive", "tar", "application/x-tar", ((257, b"ustar"),)),
    *_type("Microsoft Cabinet", "cab", "application/vnd.ms-cab-compressed", b"MSCF"),
    *_type("ISO 9660 image", "iso", "application/x-iso9660-image", ((32769, b"CD001"),)),
    # programs
    *_type(
        "Java class file",
        "class",
        "application/java application/java-byte-code application/java-vm application/x-httpd-java "
        "application/x-java application/x-java-class application/x-java-vm",
        b"\xca\xfe\xba\xbe",
    ),
    *_type(
        "Executable and Linkable Format", "elf so o", "application/x-elf application/x-executable", b"\x7fELF"
    ),
    *_type(
        "Windows Portable Executable",
        "exe dll scr sys",
        "application/vnd.microsoft.portable-executable application/x-msdownload application/x-dosexec",
        b"MZ",
    ),
    *_type("Mach-O", "dylib", "application/x-mach-binary", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"),
    *_type("WebAssembly", "wasm", "application/wasm", b"\0asm"),
    *_type("Windows Shortcut", "lnk", "application/x-ms-shortcut", b"\x4c\0\0\0\1\x14\2\0"),
    *_type("Shell script", "sh bash", "application/x-sh text/x-shellscript", b"#!/bin/sh", b"#!/bin/bash"),
    *_type("SQLite database", "sqlite sqlite3 db", "application/vnd.sqlite3", b"SQLite format 3\0"),
    # sound and video
    *_type("WAVE audio", "wav", "audio/wav audio/x-wav", ((0, b"RIFF"), (8, b"WAVE"))),
    *_type("Audio Video Interleave", "avi", "video/x-msvideo", ((0, b"RIFF"), (8, b"AVI "))),
    *_type("MP3", "mp3", "audio/mpeg", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    *_type("Ogg", "ogg oga ogv opus", "audio/ogg video/ogg application/ogg", b"OggS"),
    *_type("Free Lossless Audio Codec", "flac", "audio/flac", b"fLaC"),
    *_type("Musical Instrument Digital Interface", "mid midi", "audio/midi", b"MThd"),
    *_type("MPEG-4 Audio", "m4a", "audio/mp4", ((4, b"ftypM4A"),)),
    *_type("QuickTime", "mov qt", "video/quicktime", ((4, b"ftypqt"),)),
    *_type("MPEG-4", "mp4 m4v", "video/mp4", ((4, b"ftyp"),)),
    *_type("Matroska", "mkv webm mka", "video/x-matroska video/webm", b"\x1a\x45\xdf\xa3"),
    *_type("MPEG video", "mpg mpeg", "video/mpeg", b"\0\0\1\xba", b"\0\0\1\xb3"),
    # fonts
    *_type("Web Open Font Format 2", "woff2", "font/woff2", b"wOF2"),
    *_type("Web Open Font Format", "woff", "font/woff", b"wOFF"),
    *_type("TrueType font", "ttf", "font/ttf", b"\0\1\0\0\0"),
    *_type("OpenType font", "otf", "font/otf", b"OTTO"),
    # mail and its like
    *_type("iCalendar", "ics ical ifb", "text/calendar", b"BEGIN:VCALENDAR"),
    *_type("vCard", "vcf vcard", "text/vcard text/x-vcard", b"BEGIN:VCARD"),
    *_type("PEM", "pem crt key", "application/x-pem-file", b"-----BEGIN "),
    *_type("mbox", "mbox", "application/mbox", b"From "),
    *_type("Internet Message Format", "eml", "message/rfc822", b"Received: ", b"Return-Path: "),
    # text
    *_type("Extensible Markup Language", "xml", "application/xml text/xml", b"<?xml"),
    *_type(
        "HyperText Markup Language",
        "html htm xhtml",
        "text/html application/xhtml+xml",
        b"<!DOCTYPE html",
        b"<!doctype html",
        b"<html",
        b"<HTML",
    ),
    *_type("JSON", "json", "application/json"),
    *_type("Comma-Separated Values", "csv", "text/csv"),
    *_type("Markdown", "md markdown mdown mkd", "text/markdown"),
    *_type("Cascading Style Sheets", "css", "text/css"),
    *_type("JavaScript", "js mjs", "text/javascript application/javascript application/x-javascript"),
    *_type("Visual Basic Script", "vbs vbe", "text/vbscript"),
    *_type("Batch file", "bat cmd", "application/x-bat"),
    *_type("PowerShell script", "ps1", "application/x-powershell"),
    *_type("YAML", "yaml yml", "application/yaml text/yaml"),
    *_type("TOML", "toml", "application/toml"),
    *_type("S/MIME signature", "p7s", "application/pkcs7-signature application/x-pkcs7-signature"),
    *_type("S/MIME message", "p7m p7c", "application/pkcs7-mime application/x-pkcs7-mime"),
    *_type("OpenPGP signature", "asc sig", "application/pgp-signature"),
    ZIP,
    *(kind for _, kind in _IN_ZIP),
    TEXT,
    BINARY,
)


def from_bytes(data: bytes) -> FileType:
    """The kind of a file by its content; TEXT or BINARY for what has no mark."""
    for kind in _TYPES:
        if kind.magic and all(data.startswith(octets, at) for at, octets in kind.magic):
            return _in_zip(data) if kind is ZIP else kind
    return TEXT if _is_text(data) else BINARY


def from_extension(extension: str) -> list[FileType]:
    """The kinds that use an extension, in whatever case, with or without its dot."""
    wanted = extension.removeprefix(".").lower()
    return _distinct([kind for kind in _TYPES if wanted in kind.extensions])


def from_media_type(media_type: str) -> list[FileType]:
    """The kinds that a media type names, in whatever case."""
    wanted = media_type.strip().lower()
    return _distinct([kind for kind in _TYPES if wanted in kind.media_types])


def _in_zip(data: bytes) -> FileType:
    head = data[:_HEAD]
    return next((kind for mark, kind in _IN_ZIP if mark in head), ZIP)


def _is_text(data: bytes) -> bool:
    head = data[:_HEAD]
    if any(octet < 32 and octet not in b"\t\n\r\f\x1b" for octet in set(head)):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as err:
        return len(head) == _HEAD and err.start > _HEAD - 4  # cut within a character
    return True


def _distinct(kinds: list[FileType]) -> list[FileType]:
    return list({kind.name: kind for kind in kinds}.values())
