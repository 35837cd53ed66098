"""The outbox: what happened, written down with what made it happen, and told to subscribers afterwards by a job."""

from stonechat.events.outbox import DISPATCH, Dispatcher, Event, Subscriber, record

__all__ = ["DISPATCH", "Dispatcher", "Event", "Subscriber", "record"]
