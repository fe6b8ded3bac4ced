"""Scenarios that nobody wrote: strategies that draw them, properties of any scenario, and bugs to try both
on."""
