// A back end that tells what it was asked: the program behind the image "echo". The answer is
// JSON about the request and the pod. The query tells it to behave otherwise:
//
//	status=503        answer with this status
//	delay=200ms       wait before the answer
//	header=Name:value add a header to the answer (may be repeated)
//	size=1000         a body of so many bytes in place of the JSON
//	chunks=5&every=1s send the JSON that often, flushed each time
//	abort=1           close the connection without an answer
//	trailer=Name:value add a trailer
//	tell=Name         add X-Told-Name with the request's header of that name, or with its method for
//	                  tell=Method: for those of whom only the headers are seen (may be repeated)
//
// POST /control?ready=false makes /readyz fail, ?live=false makes /livez fail, ?fail=503 makes
// everything else answer so, until they are told back (true, true, 0).
//
// Ports, from the environment: HTTP_PORT (8080: HTTP/1, h2c, WebSocket) and HTTPS_PORT (8443),
// the latter when TLS_CERT and TLS_KEY name files. GRACE says how long it goes on serving after
// SIGTERM (0s). DRAIN is for services that lose nothing when all of their pods end at once: after
// SIGTERM it is not ready, takes one more request on each connection, and ends when nobody has asked
// for three seconds, or when DRAIN is over.
package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// answer is what the body tells; the names are those of the conformance suites' echo.
type answer struct {
	Path      string              `json:"path"`
	Host      string              `json:"host"`
	Method    string              `json:"method"`
	Proto     string              `json:"proto"`
	Headers   map[string][]string `json:"headers"`
	Body      string              `json:"body,omitempty"`
	Remote    string              `json:"remote"`
	Namespace string              `json:"namespace"`
	Ingress   string              `json:"ingress"`
	Service   string              `json:"service"`
	Pod       string              `json:"pod"`
	TLS       *security           `json:"tls,omitempty"`
}

type security struct {
	Version    string   `json:"version"`
	ServerName string   `json:"serverName"`
	Protocol   string   `json:"negotiatedProtocol,omitempty"`
	Clients    []string `json:"clients,omitempty"`
}

var (
	notReady, notLive atomic.Bool
	draining          atomic.Bool
	failing           atomic.Int64
	served            atomic.Int64
)

func main() {
	log.SetFlags(0)
	plain := env("HTTP_PORT", "8080")
	servers := []*http.Server{server(plain)}
	ended := make(chan error, 2)
	go func() { ended <- servers[0].ListenAndServe() }()
	if cert := os.Getenv("TLS_CERT"); cert != "" {
		secure := server(env("HTTPS_PORT", "8443"))
		secure.TLSConfig = &tls.Config{ClientAuth: tls.RequestClientCert}
		servers = append(servers, secure)
		go func() { ended <- secure.ListenAndServeTLS(cert, os.Getenv("TLS_KEY")) }()
	}
	log.Printf("echo: %s serves on port %s", env("POD_NAME", os.Getenv("HOSTNAME")), plain)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-ended:
		log.Fatalf("echo: %v", err)
	case s := <-signals:
		log.Printf("echo: %v after %d requests", s, served.Load())
	}
	grace, _ := time.ParseDuration(env("GRACE", "0s"))
	time.Sleep(grace)
	if limit, err := time.ParseDuration(env("DRAIN", "0s")); err == nil && limit > 0 {
		drain(limit)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, s := range servers {
		_ = s.Shutdown(ctx)
	}
	log.Print("echo: ended")
}

// drain lets traffic go elsewhere and waits until it has.
func drain(limit time.Duration) {
	// Longer than probes and the Service's endpoints take to say that it is not ready.
	const quiet, look = 3 * time.Second, 20 * time.Millisecond
	draining.Store(true)
	notReady.Store(true)
	last, since := served.Load(), time.Duration(0)
	for began := time.Now(); since < quiet && time.Since(began) < limit; time.Sleep(look) {
		since += look
		if now := served.Load(); now != last {
			last, since = now, 0
		}
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func server(port string) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Addr: ":" + port, Handler: http.HandlerFunc(handle), Protocols: protocols}
}

func handle(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz":
		health(w, !notReady.Load())
	case r.URL.Path == "/livez":
		health(w, !notLive.Load())
	case r.URL.Path == "/control" && r.Method == http.MethodPost:
		control(r)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		webSocket(w, r)
	default:
		served.Add(1)
		if draining.Load() && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		echo(w, r)
	}
}

func health(w http.ResponseWriter, good bool) {
	if !good {
		http.Error(w, "told to fail", http.StatusServiceUnavailable)
	}
}

func control(r *http.Request) {
	query := r.URL.Query()
	if value := query.Get("ready"); value != "" {
		notReady.Store(value == "false")
	}
	if value := query.Get("live"); value != "" {
		notLive.Store(value == "false")
	}
	if value, err := strconv.ParseInt(query.Get("fail"), 10, 64); err == nil {
		failing.Store(value)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	body, _ := io.ReadAll(r.Body)
	if delay, err := time.ParseDuration(query.Get("delay")); err == nil {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	if query.Get("abort") != "" {
		panic(http.ErrAbortHandler)
	}
	status := http.StatusOK
	if value, err := strconv.Atoi(query.Get("status")); err == nil {
		status = value
	}
	if value := failing.Load(); value != 0 {
		status = int(value)
	}
	for _, header := range query["header"] {
		name, value, _ := strings.Cut(header, ":")
		w.Header().Add(name, strings.TrimSpace(value))
	}
	for _, name := range query["tell"] {
		value := r.Header.Get(name)
		if name == "Method" {
			value = r.Method
		}
		w.Header().Add("X-Told-"+name, value)
	}
	for _, trailer := range query["trailer"] {
		name, value, _ := strings.Cut(trailer, ":")
		defer w.Header().Add(http.TrailerPrefix+name, strings.TrimSpace(value))
	}
	if size, err := strconv.Atoi(query.Get("size")); err == nil {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(status)
		_, _ = w.Write(make([]byte, size))
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Pod", env("POD_NAME", os.Getenv("HOSTNAME")))
	w.WriteHeader(status)
	chunks, every := 1, time.Duration(0)
	if value, err := strconv.Atoi(query.Get("chunks")); err == nil {
		chunks = value
	}
	if value, err := time.ParseDuration(query.Get("every")); err == nil {
		every = value
	}
	text := describe(r, body)
	for i := range chunks {
		if i > 0 {
			time.Sleep(every)
		}
		if _, err := w.Write(text); err != nil {
			return
		}
		if chunks > 1 {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func describe(r *http.Request, body []byte) []byte {
	a := answer{
		Path: r.RequestURI, Host: r.Host, Method: r.Method, Proto: r.Proto,
		Headers: r.Header, Remote: r.RemoteAddr,
		Namespace: env("NAMESPACE", os.Getenv("POD_NAMESPACE")),
		Ingress:   os.Getenv("INGRESS_NAME"), Service: os.Getenv("SERVICE_NAME"),
		Pod: env("POD_NAME", os.Getenv("HOSTNAME")),
	}
	if len(body) <= 64*1024 {
		a.Body = string(body)
	}
	if state := r.TLS; state != nil {
		a.TLS = &security{
			Version: tls.VersionName(state.Version), ServerName: state.ServerName,
			Protocol: state.NegotiatedProtocol,
		}
		for _, certificate := range state.PeerCertificates {
			a.TLS.Clients = append(a.TLS.Clients, certificate.Subject.String())
		}
	}
	text, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return []byte(err.Error())
	}
	return append(text, '\n')
}

// webSocket accepts the handshake and sends every frame back unmasked (RFC 6455, sections 4.2
// and 5.2).
func webSocket(w http.ResponseWriter, r *http.Request) {
	served.Add(1)
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nX-Pod: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), env("POD_NAME", os.Getenv("HOSTNAME")))
	for {
		closing, err := echoFrame(conn, buffer.Reader)
		if closing || err != nil {
			return
		}
	}
}

func echoFrame(conn net.Conn, from *bufio.Reader) (closing bool, err error) {
	var head [2]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return false, err
	}
	length := uint64(head[1] & 0x7f)
	frame := []byte{head[0]}
	extended := map[uint64]int{126: 2, 127: 8}[length]
	if extended > 0 {
		more := make([]byte, extended)
		if _, err := io.ReadFull(from, more); err != nil {
			return false, err
		}
		length = 0
		for _, b := range more {
			length = length<<8 | uint64(b)
		}
		frame = append(append(frame, head[1]&0x7f), more...)
	} else {
		frame = append(frame, byte(length))
	}
	if length > 1<<20 {
		return false, fmt.Errorf("a frame of %d bytes", length)
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(from, mask[:]); err != nil {
			return false, err
		}
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(from, payload); err != nil {
		return false, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	opcode := head[0] & 0x0f
	if opcode == 9 { // a ping is answered by a pong
		frame[0] = frame[0]&0xf0 | 10
	}
	if opcode == 10 {
		return false, nil
	}
	_, err = conn.Write(append(frame, payload...))
	return opcode == 8, err
}
