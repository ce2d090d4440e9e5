# The integration of a desktop application: a backend that is asked by JSON-RPC, and a broker that
# tells by MQTT what happens.
#
#   BACKEND_TOKEN=… provost config validate -f config/examples/desktop.hcl
#   BACKEND_TOKEN=… provost up -f config/examples/desktop.hcl

supervision {
  enabled = true
}

integration "backend_api" {
  type = "json-rpc"

  endpoint {
    address = "${env.BACKEND_URL:-http://127.0.0.1:8080}"
    path    = "/rpc"
  }

  auth {
    type  = "bearer"
    token = "${env.BACKEND_TOKEN}"
  }

  resilience {
    timeout        = "5s"
    max_concurrent = 20

    retry {
      max_attempts = 3
      backoff      = "exponential"
    }

    circuit_breaker {
      failure_threshold = 5
      success_threshold = 2
      timeout           = "30s"
    }
  }
}

integration "notices" {
  type = "mqtt"

  endpoint {
    address = "${env.BROKER_URL:-mqtt://127.0.0.1:1883}"
  }

  config {
    client_id      = "desktop-${env.DESKTOP_ID:-1}"
    keep_alive     = 60
    session_expiry = "1h"

    will {
      topic   = "desktop/lost"
      message = "${env.DESKTOP_ID:-1}"
      qos     = 1
    }
  }

  # They arrive on `downstream.notices.events`.
  subscription "backend/notices/#" {
    qos = 1
  }

  resilience {
    circuit_breaker {
      failure_threshold = 3
      timeout           = "10s"
    }
  }
}
