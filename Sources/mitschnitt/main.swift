import Hummingbird
import AsyncHTTPClient
import GRDB
import Crypto
import Subprocess
import Yams
import Mustache
import Configuration
print(1)
