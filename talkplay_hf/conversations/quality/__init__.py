"""Measuring conversations, having them judged, looking at them."""
