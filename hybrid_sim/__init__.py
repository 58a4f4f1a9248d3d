"""An ensemble hybrid user simulator with a statistical fallback."""
