"""Websocket market streams of the three markets, on the simulator's port.

From a path to frames: :mod:`.routes` and :mod:`.names` say what is asked for, :mod:`.session` speaks the control
protocol, :mod:`.feed` finds who makes the events of a stream, :mod:`.reel` puts those of a connection in order, and
:mod:`.connection` sends them when the simulated clock says so. Events are functions of seed and time: nothing is kept,
and what was streamed in a window can be asked for again.
"""
