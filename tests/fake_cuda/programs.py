"""Small programs of which it is known what they do on a device, to check the tracer by."""

import torch
import torch.nn.functional as F

CUDA = torch.device("cuda")


def views() -> None:
    """One launch; 64 bytes, however many views of them, and 64 that are not filled."""
    x = torch.zeros(4, 4, device=CUDA)
    kept = [x.t(), x[0], x.view(16), x.detach(), x.expand(3, 4, 4), *x.unbind(), *x.split(2)]
    torch.empty_like(kept[0])


def in_place() -> None:
    """400 bytes written, read and written, written, written; and read from one and written to the
    other.
    """
    x = torch.ones(100, device=CUDA)
    x.add_(1)
    x.fill_(2.0)
    y = torch.ones(100, device=CUDA)
    x.copy_(y)


def foreach() -> None:
    """One launch for three tensors of 40 bytes, which are read and written, and last only
    written.
    """
    weights = [torch.zeros(10, device=CUDA) for _ in range(3)]
    torch._foreach_mul_(weights, 2.0)
    torch._foreach_add_(weights, weights)
    torch._foreach_zero_(weights)


def gathered() -> None:
    """Of 1000 rows of 8 numbers 10 are read and written, and 10 indices read; twice."""
    table, rows = torch.zeros(1000, 8, device=CUDA), torch.zeros(10, dtype=torch.int64, device=CUDA)
    F.embedding(rows, table)
    table.index_select(0, rows)


def freed() -> None:
    """10000 bytes at most: 4000 that only a view holds, and 6000; the next 2000 come after the view
    has gone.
    """
    a = torch.zeros(1000, device=CUDA)
    part = a[:1]
    del a
    b = torch.zeros(1500, device=CUDA)
    del part
    c = torch.zeros(500, device=CUDA)
    del b, c


def saved_for_backward() -> None:
    """12008 bytes at most: x, exp(x), which autograd alone holds, the gradient; and two numbers for
    the sum.
    """
    x = torch.zeros(1000, device=CUDA, requires_grad=True)
    total = x.exp().sum()
    total.backward()
    del total
    torch.zeros(1000, device=CUDA)  # exp(x) has gone


def products() -> None:
    """2·3·4, 5 times 2·3·4, and again with a sum; attention forward and backward over (1, 2, 16,
    8).
    """
    a, b = torch.zeros(2, 3, device=CUDA), torch.zeros(3, 4, device=CUDA)
    a @ b
    torch.bmm(a.expand(5, 2, 3), b.expand(5, 3, 4))
    torch.addmm(torch.zeros(4, device=CUDA), a, b)
    q, k, v = (
        torch.zeros(1, 2, 16, 8, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )
    F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0).sum().backward()


PROGRAMS = {
    program.__name__: program
    for program in (views, in_place, foreach, gathered, freed, saved_for_backward, products)
}
