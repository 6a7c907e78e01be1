import pytest
import torch

from autospine.precision import autocast, choose_precision, tensor_cores

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def rounding():
    """Whether products and convolutions in single precision may be rounded."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("wanted", "type_"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_wish_is_granted(wanted, type_):
    assert choose_precision(wanted, CPU) == choose_precision(wanted, GPU) == type_


def test_a_gpu_computes_in_half_precision():
    assert choose_precision("auto", GPU) == torch.float16


def test_autocast_changes_nothing_in_single_precision():
    with autocast(CPU, torch.float32):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_tensor_cores_are_used_inside_only_whatever_happens_there():
    before = rounding()
    seen = []

    def fail():
        with tensor_cores(GPU):
            seen.append(rounding())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert seen == [(True, True)]
    assert rounding() == before


def test_a_cpu_has_none():
    before = rounding()
    with tensor_cores(CPU):
        assert rounding() == before
