"""What the whole chain would do with a request that nobody has sent.

`imagined` makes a flow of a method, a URL and header fields; `chain` asks every addon in its order (`would_do`);
`upstream` tells the servers and whether a failed attempt would be repeated. Nothing is sent, stored or counted.
"""
