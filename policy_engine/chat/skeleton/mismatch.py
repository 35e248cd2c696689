"""The error of a skeleton that does not write what its template does."""

from __future__ import annotations

from policy_engine.chat.tokens.fast_backend import BackendMismatch


class SkeletonMismatch(BackendMismatch):
    """Another text, or other segments, from a skeleton than from the template.

    Raised by the rendering that finds it, after which the template is rendered in full. What its skeletons gave out
    before is not to be trusted.
    """

    code = "PE413"
    again = "without skeletons"
