"""On a GPU, recording never makes the device wait; the same recipe runs there as on the processor."""

import pytest
import torch
from torch import nn

from dlstudio.runs.recorder import record
from dlstudio.training.fit import fit
from dlstudio.training.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is here"),
]


@pytest.fixture
def no_synchronisation():
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_recording_every_layer_of_every_step_never_synchronises(no_synchronisation, clip, amp):
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(10)]).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    x = torch.randn(128, 64, device="cuda")
    losses = []
    with record("gpu") as rec:
        rec.watch(model, optimizer, every=1)
        for step in range(50):
            if step == 5:
                no_synchronisation()  # the first steps allocate, which CUDA synchronises for
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16, enabled=amp):
                loss = model(x).float().pow(2).mean()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            rec.log({"loss": loss, "lr": 1e-3}, step=step)
            losses.append(loss.detach())
        torch.cuda.set_sync_debug_mode("default")
    steps, values = rec.run.scalars("loss")
    assert steps.tolist() == list(range(50))
    assert values == pytest.approx(torch.stack(losses).cpu().numpy())
    assert rec.run.layers("update_ratio")[2].shape == (50, 20)
    assert len(rec.run.scalars("grad_norm")[0]) == 50


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_the_same_recipe_learns_the_same_on_both_devices(precision):
    recipe = Recipe(data="mortgage", epochs=3, seed=1)
    cpu = fit(recipe.replace(device="cpu"), progress=False)
    gpu = fit(recipe.replace(device="cuda", precision=precision), progress=False)
    tolerance = 1e-3 if precision == "32-true" else 5e-2
    assert gpu.scalars("val/loss")[1] == pytest.approx(cpu.scalars("val/loss")[1], rel=tolerance)
