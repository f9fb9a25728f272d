"""What every test run needs: ROS logs aside, this python's packages, and no examples that fail for their time."""

import os
import sys
import tempfile

from hypothesis import settings

os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='vdd_ros_log_'))
os.environ.setdefault('OMP_NUM_THREADS', '1')
_prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
if sys.prefix not in _prefixes:
    os.environ['AMENT_PREFIX_PATH'] = os.pathsep.join(filter(None, [*_prefixes, sys.prefix]))

settings.register_profile('vdd_ros', deadline=None)
settings.load_profile('vdd_ros')
