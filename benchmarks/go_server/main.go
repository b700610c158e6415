// A gRPC server that echoes bytes, for the benchmarks: how Go's own implementation treats a crowd of calls.
//
// It takes messages as they are, without a .proto, as benchmarks/serve_burst.py does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
)

// raw is a codec that leaves the bytes of a message alone.
type raw struct{}

func (raw) Marshal(message interface{}) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message interface{}) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

func (raw) String() string { return "proto" }

func main() {
	streams := flag.Uint("streams", 100, "streams on each connection")
	delay := flag.Duration("delay", 50*time.Millisecond, "what each call takes")
	flag.Parse()

	echo := func(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
		var message []byte
		if err := decode(&message); err != nil {
			return nil, err
		}
		time.Sleep(*delay)
		return &message, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(uint32(*streams)), grpc.CustomCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "aio_authgrpc.benchmarks.Echo",
		HandlerType: (*interface{})(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
	}, nil)
	// It ends with standard input, so that it never outlives the process that started it.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
