"""Variational Diffusion Distillation for ROS 2: rosbag demonstrations to a mixture of experts that moves an arm."""

__version__ = '0.1.0'
