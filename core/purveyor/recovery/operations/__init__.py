"""The operation that brings one service back."""
