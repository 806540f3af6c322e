"""Scripts torchvision's ResNet-50 and saves it, for `inferkv demo` and the examples.

    python3 script_resnet50.py model.pt                      seeded weights: real times, meaningless answers
    python3 script_resnet50.py model.pt --weights FILE.pth   weights of your own (a state_dict)

Needs torch and torchvision: apt-get install python3-torch python3-torchvision, or pip install torch torchvision.
"""

import argparse

import torch
import torchvision

parser = argparse.ArgumentParser(description="Scripts torchvision's ResNet-50.")
parser.add_argument("output", help="the file to write")
parser.add_argument("--weights", help="a state_dict of torchvision's resnet50")
parser.add_argument("--seed", type=int, default=50, help="of the weights, where none are given")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
model = torchvision.models.resnet50()
if arguments.weights:
    model.load_state_dict(torch.load(arguments.weights, map_location="cpu"))
torch.jit.script(model.eval()).save(arguments.output)
