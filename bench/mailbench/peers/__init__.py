"""The mail servers that are measured, one program per file."""
