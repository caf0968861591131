"""Train a small network on scikit-learn's handwritten digits, on several nodes at once.

Synchronous data-parallel SGD: every rank holds the same weights and its own part of the data. For each batch the
ranks compute gradients of their parts, rank 0 averages them and sends the average back, and all take the same step.
Only NumPy and a TCP socket are needed. Rank 0 prints loss and test accuracy per epoch, and writes the model.
"""

import argparse
import os
import socket
import struct
import time

import numpy as np
from sklearn.datasets import load_digits

PORT = 29400
PATIENCE = 60.0  # seconds to wait for the other ranks

Weights = list[np.ndarray]


class Ring:
    """The ranks of this job, connected in a star around rank 0; `average` is an all-reduce."""

    def __init__(self, rank: int, addresses: list[str]) -> None:
        self.rank = rank
        self.size = len(addresses)
        self.peers: list[socket.socket] = []
        if self.size == 1:
            return
        if rank == 0:
            with socket.create_server((addresses[0], PORT)) as server:
                server.settimeout(PATIENCE)
                self.peers = [server.accept()[0] for _ in range(self.size - 1)]
        else:
            self.peers = [self._dial(addresses[0])]
        for peer in self.peers:
            peer.settimeout(PATIENCE)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def _dial(address: str) -> socket.socket:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection((address, PORT), timeout=5)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def average(self, arrays: Weights) -> Weights:
        """The mean of every rank's arrays, the same bytes on every rank."""
        if not self.peers:
            return arrays
        flat = np.concatenate([array.ravel() for array in arrays])
        if self.rank == 0:
            for peer in self.peers:
                flat = flat + _receive(peer)
            flat = flat / self.size
            for peer in self.peers:
                _send(peer, flat)
        else:
            _send(self.peers[0], flat)
            flat = _receive(self.peers[0])
        parts = np.split(flat, np.cumsum([array.size for array in arrays])[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _send(peer: socket.socket, values: np.ndarray) -> None:
    data = values.astype("<f8").tobytes()
    peer.sendall(struct.pack("<Q", len(data)) + data)


def _receive(peer: socket.socket) -> np.ndarray:
    (length,) = struct.unpack("<Q", _read(peer, 8))
    return np.frombuffer(_read(peer, length), dtype="<f8")


def _read(peer: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = peer.recv(length - len(data))
        if not piece:
            raise ConnectionError("another rank ended")
        data += piece
    return bytes(data)


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels for training, then for testing (a fifth of all)."""
    digits = load_digits()
    images, labels = digits.data / 16.0, digits.target
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], labels[order]
    cut = len(images) // 5
    return images[cut:], labels[cut:], images[:cut], labels[:cut]


def initial(seed: int, hidden: int = 64) -> Weights:
    """The same random weights on every rank."""
    random = np.random.default_rng(seed)
    return [
        random.normal(0, (2 / 64) ** 0.5, (64, hidden)),
        np.zeros(hidden),
        random.normal(0, (2 / hidden) ** 0.5, (hidden, 10)),
        np.zeros(10),
    ]


def forward(weights: Weights, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer and the probabilities of the ten digits."""
    first, first_bias, second, second_bias = weights
    hidden = np.maximum(images @ first + first_bias, 0)
    scores = hidden @ second + second_bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients(weights: Weights, images: np.ndarray, labels: np.ndarray) -> tuple[Weights, float]:
    """Gradients of the mean cross-entropy, and that loss."""
    hidden, probabilities = forward(weights, images)
    rows = np.arange(len(labels))
    loss = float(-np.log(probabilities[rows, labels] + 1e-12).mean())
    error = probabilities
    error[rows, labels] -= 1
    error /= len(labels)
    back = (error @ weights[2].T) * (hidden > 0)
    return [images.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)], loss


def main() -> None:
    """Train, report, and write the model on rank 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="model.npz")
    options = parser.parse_args()

    rank = int(os.environ.get("WHIMBREL_NODE_RANK", "0"))
    addresses = os.environ.get("WHIMBREL_NODE_IPS", "127.0.0.1").split()
    ring = Ring(rank, addresses)
    train_images, train_labels, test_images, test_labels = load(options.seed)
    mine = slice(rank, None, ring.size)
    images, labels = train_images[mine], train_labels[mine]
    print(f"rank {rank} of {ring.size}: {len(images)} of {len(train_images)} training images", flush=True)

    weights = initial(options.seed)
    velocity = [np.zeros_like(array) for array in weights]
    random = np.random.default_rng(options.seed + 1)  # the same order of batches on every rank
    batch = 32
    batches = len(train_images) // ring.size // batch
    for epoch in range(1, options.epochs + 1):
        order = random.permutation(batches * batch)
        total = 0.0
        for start in range(0, batches * batch, batch):
            rows = order[start : start + batch]
            local, loss = gradients(weights, images[rows], labels[rows])
            *shared, mean_loss = ring.average([*local, np.array([loss])])
            total += float(mean_loss[0])
            for index, gradient in enumerate(shared):
                velocity[index] = 0.9 * velocity[index] - 0.1 * gradient
                weights[index] = weights[index] + velocity[index]
        if rank == 0:
            accuracy = float((forward(weights, test_images)[1].argmax(axis=1) == test_labels).mean())
            print(f"epoch {epoch:2d}  loss {total / batches:.4f}  test accuracy {accuracy:.2%}", flush=True)
    if rank == 0:
        names = ("first", "first_bias", "second", "second_bias")
        np.savez(options.model, **dict(zip(names, weights, strict=True)))
        print(f"model written to {options.model}", flush=True)


if __name__ == "__main__":
    main()
