"""Interactive sessions over HTTP on this computer, with a page to click into."""
