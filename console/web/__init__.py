"""The web door: people without a terminal submit through a browser, programs through HTTP.

The browser never owns a job: handlers hand it to the engine, return a ticket and poll.
"""
