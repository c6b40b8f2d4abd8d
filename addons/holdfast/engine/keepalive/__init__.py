"""Connections to servers that outlive their clients: one pool of idle HTTP/1 connections for all of them.

mitmproxy gives each client connections of its own and closes them with it. Here `line` is a connection whose reader
belongs to nobody: what it reads goes to the client that it serves at the moment. `sharing` says which one that is.
"""
