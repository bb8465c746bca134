"""A Docker Engine and a service type that answer at once, for what is a rule of ours: operations,
reconciliation, schedules.

The engine keeps its containers in memory and in one file of the state directory, so that they
outlive a process that is killed, and a copy of the state directory is a copy of the whole world.
The servers keep their data in their volumes. What a real engine, server or driver does is shown on
real ones, never here.
"""
