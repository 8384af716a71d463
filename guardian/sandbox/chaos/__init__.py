"""Proof by chaos: replicas of the guardian under load while everything around them fails, and an oracle.

schedule: what goes wrong when, from a seed; ground: what runs; faults: doing it; buyers: the load; oracle:
what must hold at the end; trial: all of it together. See docs/chaos.md.
"""
