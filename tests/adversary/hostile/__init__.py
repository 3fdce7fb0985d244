"""Peers that mean harm, and processes of the whole program that are measured while they talk to one."""

from hostile.peers import BEHAVIOURS, Peer, serving
from hostile.program import Ended, Program, running

__all__ = ["BEHAVIOURS", "Ended", "Peer", "Program", "running", "serving"]
