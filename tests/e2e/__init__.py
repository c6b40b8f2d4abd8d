"""The whole gateway from outside: real processes, a real origin, real clients."""
