"""A JAX loop: the weights go into the jitted step, the losses come out of it.

One learns: `get_weights(ids)` before the step and `observe(losses)` behind it keep the library out of the
compiled part; arrays of JAX are taken as they are. Batches of one size are compiled once: whole_batches.
"""

import jax
import jax.numpy as jnp

from infobatch import InfoBatch

SIZE, BATCH, EPOCHS = 2048, 64, 8
key_x, key_noise = jax.random.split(jax.random.key(1))
x = jax.random.normal(key_x, (SIZE, 3))
y = x @ jnp.array([1.0, -2.0, 0.5]) + 0.3 * jax.random.normal(key_noise, (SIZE,)) ** 3
compiled = 0


@jax.jit
def step(parameters, inputs, targets, weights):
    """One step of gradient descent; returns the parameters and the losses [B]."""
    global compiled
    compiled += 1  # runs while tracing, once a shape

    def weighted(p):
        losses = (inputs @ p - targets) ** 2
        return (weights * losses).mean(), losses

    gradient, losses = jax.grad(weighted, has_aux=True)(parameters)
    return parameters - 0.05 * gradient, losses


ib = InfoBatch(SIZE, EPOCHS, seed=1, keep="exact", whole_batches=BATCH)
parameters = jnp.zeros(3)
for _ in range(EPOCHS):
    for ids in ib.batch_sampler(BATCH):
        rows = jnp.array(ids)
        parameters, losses = step(parameters, x[rows], y[rows], ib.get_weights(ids))
        ib.observe(losses)
    print(ib.statistics)
print(f"parameters {[round(float(p), 2) for p in parameters]}, the step was compiled {compiled} time(s)")
