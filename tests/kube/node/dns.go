package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	clusterDomain = "cluster.local"
	// Any other name is looked up in this ConfigMap of kube-system: name -> addresses.
	namesConfigMap = "names"
)

// The Service address of a cluster's name server, by custom.
var nameServer = net.IPv4(10, 96, 0, 10)

// resolverConfig is the /etc/resolv.conf of a pod.
func resolverConfig(namespace string) string {
	return fmt.Sprintf("nameserver %s\nsearch %[2]s.svc.%[3]s svc.%[3]s %[3]s\noptions ndots:5\n",
		nameServer, namespace, clusterDomain)
}

// serveNames answers for the names of Services, as the schema for DNS in Kubernetes has them.
func (p *proxy) serveNames() error {
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(nameServer.String(), "53"))
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				fmt.Fprintln(os.Stderr, "node: names:", err)
				return
			}
			if answer := p.answer(buffer[:n]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return nil
}

// answer is the response to a query; nil to what is none.
func (p *proxy) answer(query []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil || header.Response {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	alias, addresses, known := p.resolve(name)
	message := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true,
			RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{question},
	}
	if !known {
		message.RCode = dnsmessage.RCodeNameError
	}
	add := func(name dnsmessage.Name, kind dnsmessage.Type, body dnsmessage.ResourceBody) {
		message.Answers = append(message.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Type: kind, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   body,
		})
	}
	owner := question.Name
	for hops := 0; alias != "" && hops < 8; hops++ {
		target, err := dnsmessage.NewName(strings.TrimSuffix(alias, ".") + ".")
		if err != nil {
			return nil
		}
		add(owner, dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: target})
		owner = target
		alias, addresses, _ = p.resolve(strings.TrimSuffix(alias, "."))
	}
	for _, address := range addresses {
		switch v4 := address.To4(); {
		case v4 != nil && question.Type == dnsmessage.TypeA:
			add(owner, dnsmessage.TypeA, &dnsmessage.AResource{A: [4]byte(v4)})
		case v4 == nil && question.Type == dnsmessage.TypeAAAA:
			add(owner, dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: [16]byte(address)})
		}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// resolve finds what a name stands for: another name, or addresses, maybe none.
func (p *proxy) resolve(name string) (alias string, addresses []net.IP, known bool) {
	rest, ours := strings.CutSuffix(name, ".svc."+clusterDomain)
	if !ours {
		return p.resolveOther(name)
	}
	parts := strings.Split(rest, ".")
	hostname := ""
	if len(parts) == 3 {
		hostname, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 {
		return "", nil, false
	}
	service, err := p.services.Services(parts[1]).Get(parts[0])
	if err != nil {
		return "", nil, false
	}
	spec := service.Spec
	switch {
	case spec.Type == corev1.ServiceTypeExternalName:
		return spec.ExternalName, nil, hostname == ""
	case spec.ClusterIP != corev1.ClusterIPNone:
		return "", parse(spec.ClusterIPs), hostname == ""
	}
	of := labels.Set{discoveryv1.LabelServiceName: service.Name}.AsSelector()
	slices, err := p.slices.EndpointSlices(service.Namespace).List(of)
	if err != nil {
		return "", nil, false
	}
	known = hostname == ""
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if ready && (hostname == "" || value(endpoint.Hostname) == hostname) {
				addresses = append(addresses, parse(endpoint.Addresses)...)
				known = true
			}
		}
	}
	return "", addresses, known
}

func (p *proxy) resolveOther(name string) (string, []net.IP, bool) {
	names, err := p.agent.maps.ConfigMaps("kube-system").Get(namesConfigMap)
	if err != nil {
		return "", nil, false
	}
	text, known := names.Data[name]
	return "", parse(strings.Fields(text)), known
}

func parse(texts []string) (list []net.IP) {
	for _, text := range texts {
		if address := net.ParseIP(text); address != nil {
			list = append(list, address)
		}
	}
	return list
}
