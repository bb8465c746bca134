"""The verb that brings one service back."""
