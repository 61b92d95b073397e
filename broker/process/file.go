package process

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
)

// MaxPEMBytes bounds a PEM file of certificates or of a private key.
const MaxPEMBytes = 1 << 20

// ReadFile reads a file of at most limit bytes. A longer file is an error.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, err
}

// ReadRoots reads a PEM file of certificate authorities. For "" it returns nil,
// which means the system's authorities.
func ReadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := ReadFile(path, MaxPEMBytes)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return pool, nil
}
