"""Results that are tables: `to_frame`, and how they look in a notebook."""

from __future__ import annotations

import html
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class Framed:
    """A result with a table, which a notebook shows below its `repr`."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The result as a table."""

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        return (
            f"<p>{html.escape(repr(self))}</p>\n{frame.to_html(max_rows=10, index=False, float_format='{:.3f}'.format)}"
        )
