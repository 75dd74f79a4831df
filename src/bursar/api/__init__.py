"""The HTTP face: routes, strict reading, problem documents. See README.md."""
