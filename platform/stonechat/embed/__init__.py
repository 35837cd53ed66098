"""The widget on customers' pages: loader, frame, assets, and where it was seen."""
