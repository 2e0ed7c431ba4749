"""Transports of MCP: pipes of a child process, any two byte streams, and streamable HTTP."""
