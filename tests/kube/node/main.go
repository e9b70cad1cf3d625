// A Kubernetes cluster made of local processes, for tests: etcd, the API server and the
// controllers in namespaces of their own, and an agent that runs pods there.
//
//	node run         starts a cluster and stays until its owner is gone
//	node forward     lets connections to a local port through into a cluster
//	node inside      (its own) the first process in a cluster's namespaces
//	node container   (its own) becomes the program of a container
package main

import (
	"fmt"
	"os"
	"runtime"
)

func init() {
	// A child dies with the thread that started it (see startInside); the main thread stays.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: node run|forward …"))
	}
	var err error
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "run":
		err = run(args)
	case "forward":
		err = forward(args)
	case "inside":
		err = inside()
	case "container":
		err = becomeContainer()
	default:
		err = fmt.Errorf("unknown command %q", command)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "node:", err)
	os.Exit(1)
}
