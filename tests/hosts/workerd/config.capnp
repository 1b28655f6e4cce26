# SPDX-License-Identifier: Apache-2.0
#
# hosts.py fills in @PORT@, @CONTROL@ and the modules of the package. `workerd serve` bundles nothing: each file is named here.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .worker),
    (name = "network", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:@PORT@", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [
@MODULES@
  ],
  bindings = [
    (name = "KEEPER", durableObjectNamespace = "Keeper"),
    (name = "CONTROL", text = "@CONTROL@"),
  ],
  # Kept although nobody asks it for anything: it has a stream to follow.
  durableObjectNamespaces = [(className = "Keeper", uniqueKey = "keeper", preventEviction = true)],
  durableObjectStorage = (inMemory = void),
  globalOutbound = "network",
);
