"""Makes a folder with which memcached -S lets one user in: sasl_password.py FOLDER USER REALM PASSWORD."""
import ctypes
import os
import sys

GET_CONFIG_PATH = 5
CREATE = 1

folder, user, realm, password = sys.argv[1:]
with open(os.path.join(folder, "memcached.conf"), "w") as config:
    config.write("mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\n")
    config.write("sasldb_path: %s\n" % os.path.join(folder, "db"))

sasl = ctypes.CDLL("libsasl2.so.2")
GetPath = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p)


class Callback(ctypes.Structure):
    _fields_ = [("id", ctypes.c_ulong), ("proc", ctypes.c_void_p), ("context", ctypes.c_void_p)]


@GetPath
def get_path(_context, path, _unused):
    path[0] = folder.encode()
    return 0


callbacks = (Callback * 2)(Callback(GET_CONFIG_PATH, ctypes.cast(get_path, ctypes.c_void_p), None), Callback(0, None, None))
connection = ctypes.c_void_p()
assert sasl.sasl_server_init(callbacks, b"memcached") == 0
realm_bytes, secret = realm.encode(), password.encode()
assert sasl.sasl_server_new(b"memcached", realm_bytes, realm_bytes, None, None, None, 0, ctypes.byref(connection)) == 0
assert sasl.sasl_setpass(connection, user.encode(), secret, len(secret), None, 0, CREATE) == 0
# The server runs as nobody when it is started by root.
os.chmod(folder, 0o755)
os.chmod(os.path.join(folder, "db"), 0o644)
