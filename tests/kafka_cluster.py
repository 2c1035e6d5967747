"""librdkafka's mock cluster: a broker on loopback that speaks Kafka over real sockets, and can be taken down and up.

It lives in threads of librdkafka; confluent_kafka brings the library, and has no names for these functions of it.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import NamedTuple, Self

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition


class Record(NamedTuple):
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]
    partition: int
    offset: int


class KafkaCluster:
    """One broker, in memory: what it holds survives `stop` and `start`."""

    def __init__(self) -> None:
        libraries = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        (library,) = libraries.glob("librdkafka*")
        lib = self._lib = ctypes.CDLL(str(library))
        lib.rd_kafka_conf_new.restype = ctypes.c_void_p
        lib.rd_kafka_new.restype = lib.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        error = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
        lib.rd_kafka_conf_set(conf, b"log_level", b"0", error, len(error))
        self._handle = ctypes.c_void_p(lib.rd_kafka_new(0, conf, error, len(error)))
        assert self._handle, error.value
        self._cluster = ctypes.c_void_p(lib.rd_kafka_mock_cluster_new(self._handle, 1))
        self.address = lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """host:port"""

    def make_topic(self, name: str, partitions: int = 1) -> None:
        assert self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def stop(self) -> None:
        """Close the connections and take no new ones."""
        assert self._lib.rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def start(self) -> None:
        assert self._lib.rd_kafka_mock_broker_set_up(self._cluster, 1) == 0

    def records(self, topic: str, count: int = 0, partitions: int = 1) -> list[Record]:
        """What an ordinary consumer gets: all that there is, and at least so many."""
        consumer = Consumer(
            {"bootstrap.servers": self.address, "group.id": "test", "auto.offset.reset": "earliest"}
        )
        found = []
        try:
            places = [TopicPartition(topic, number, 0) for number in range(partitions)]
            ends = [consumer.get_watermark_offsets(place, timeout=10) for place in places]
            count = max(count, sum(end[1] for end in ends))
            consumer.assign(places)
            deadline = time.monotonic() + 10
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} records"
                message = consumer.poll(0.2)
                if message is not None:
                    assert message.error() is None, message.error()
                    headers = dict(message.headers() or ())
                    found.append(
                        Record(message.key(), message.value(), headers, message.partition(), message.offset())
                    )
        finally:
            consumer.close()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)
