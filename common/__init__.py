"""Shared parts of the scribble-segmentation bundles: networks, losses, transforms, data, metrics, handlers, engines."""
