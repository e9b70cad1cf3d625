package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// credentials are the files made anew for each cluster.
type credentials struct {
	dir    string
	inside string // kubeconfig of an administrator, as the cluster's own programs use it
	ca     *authority
}

func (c credentials) file(name string) string { return filepath.Join(c.dir, name) }

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func makeCredentials(s settings) (credentials, error) {
	c := credentials{dir: s.private("pki")}
	c.inside = c.file("inside.kubeconfig")
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return c, err
	}
	var err error
	if c.ca, err = newAuthority("portcullis test cluster"); err != nil {
		return c, err
	}
	server, serverKey, err := c.ca.issue(pkix.Name{CommonName: "kube-apiserver"},
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		[]net.IP{net.IPv4(127, 0, 0, 1), nodeGateway, serviceOfServer})
	if err != nil {
		return c, err
	}
	admin, adminKey, err := c.ca.issue(
		pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil, nil)
	if err != nil {
		return c, err
	}
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	accountsKey, err := keyToPEM(accounts)
	if err != nil {
		return c, err
	}
	for name, content := range map[string][]byte{
		"ca.crt": c.ca.pem, "server.crt": server, "server.key": serverKey,
		"accounts.key": accountsKey,
	} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return c, err
		}
	}
	write := func(path, server string) error {
		config := api.NewConfig()
		config.Clusters["portcullis"] = &api.Cluster{
			Server: server, CertificateAuthorityData: c.ca.pem,
		}
		config.AuthInfos["admin"] = &api.AuthInfo{
			ClientCertificateData: admin, ClientKeyData: adminKey,
		}
		config.Contexts["admin"] = &api.Context{Cluster: "portcullis", AuthInfo: "admin"}
		config.CurrentContext = "admin"
		return clientcmd.WriteToFile(*config, path)
	}
	if err := write(c.inside, "https://"+serverAddress); err != nil {
		return c, err
	}
	return c, write(filepath.Join(s.Dir, "kubeconfig"), "https://"+s.Server)
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key, certToPEM(der)}, nil
}

// issue makes a certificate for a client and a server at once: its chain and key as PEM.
func (a *authority) issue(name pkix.Name, dns []string, ips []net.IP) ([]byte, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(name)
	template.DNSNames, template.IPAddresses = dns, ips
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	text, err := keyToPEM(key)
	return certToPEM(der), text, err
}

func certificate(name pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: name,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
	}
}

func certToPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyToPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}
