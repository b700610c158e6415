"""Channels over channels: replaced, taken in turn, explained."""
