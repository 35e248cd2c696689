"""The policy language: text to AST (`parse`), AST to meaning (`check`), AST to text (`format`)."""
