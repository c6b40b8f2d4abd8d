"""What a person has in mitmweb and in the mitmproxy console: commands, and a view of captures. Part of every chain.

commands       the addon: `holdfast.captures`, `.show`, `.replay`, `.breaker.open`, `.breaker.close`
arguments      the types of their arguments, which complete them in the console
looking        what they ask the stores, which may be away
loading        from a capture to a flow that can be edited and replayed
content_view   captures and messages of Kafka, readably, wherever mitmproxy shows a body
"""
