// SPDX-License-Identifier: Apache-2.0

package main

import "syscall/js"

// CPU time of the Node process.
func now() int64 {
	used := js.Global().Get("process").Call("cpuUsage")
	return int64(used.Get("user").Float()+used.Get("system").Float()) * 1000
}
