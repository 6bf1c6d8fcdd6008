"""Wraps library functions for Python before 3.12, in place and so that nobody can tell the difference but in a traceback."""

import functools

from _sofa_probe.sizes import size_of


def install(owners, attribute, function, point, sized):
    """Replace ``function`` by a timed one wherever an owner holds it; returns functions that undo it."""

    @functools.wraps(function)
    def timed(*args, **kwargs):
        point.enter(size_of(args[:2]) if sized else 0)
        try:
            return function(*args, **kwargs)
        finally:
            point.leave()

    timed._torchdynamo_disable = True
    return [_replace(owner, attribute, timed, function) for owner in owners if owner.__dict__.get(attribute) is function]


def _replace(owner, attribute, timed, function):
    setattr(owner, attribute, timed)

    def undo():
        if owner.__dict__.get(attribute) is timed:
            setattr(owner, attribute, function)

    return undo
